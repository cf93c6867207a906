//! Whether a screen is nothing but lines of text, as of a shell. Part of the screen model in the umlmon daemon.

use super::{Modes, Screen};

impl Screen {
    /// Nothing is below the cursor, and no mode is on that only a program that paints its screen uses. Then the latest
    /// output shows the same.
    pub fn is_plain(&self) -> bool {
        // These are on at the prompt of some shells, too.
        let at_a_prompt = Modes {
            keypad: self.modes.keypad,
            cursor_keys: self.modes.cursor_keys,
            bracketed_paste: self.modes.bracketed_paste,
            repeat: self.modes.repeat,
            ..Modes::RESET
        };
        let whole = self.top == 0 && self.bottom == self.rows;
        let is_blank = |y| {
            let row = self.grid.row(y);
            row.iter().all(|cell| cell.character() == ' ')
        };
        let mut below = self.now.y + 1..self.rows;
        self.modes == at_a_prompt && whole && !self.alternate && below.all(is_blank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_plain_and_a_painted_screen_is_not() {
        for (bytes, plain) in [
            ("", true),
            ("login: root\r\n# ls\r\na b\r\n# ", true),
            ("\x1b[?2004h# ", true),
            ("\x1b[2J\x1b[24;1Hstatus\x1b[1;1H", false),
            ("\x1b[?25lmenu", false),
            ("\x1b[2;10rtext", false),
            ("\x1b[2J\x1b[H# ", true),
            ("\x1b[?1049h\x1b[H", false),
        ] {
            let mut screen = Screen::new(24, 80);
            screen.feed(bytes.as_bytes());
            assert_eq!(screen.is_plain(), plain, "{bytes:?}");
        }
    }
}
