//! What the messages of a command count, so that they can be said again on another line. Used by clients and by the
//! helper.
//!
//! Each direction of a command is counted from its beginning: a message counts for the [`cost`] of its bytes of input
//! or output, and those that only tell such counts for nothing. So a side that learns how much the other one has heard
//! knows which of its messages were lost with a line, and both know how much is under way.

use std::collections::VecDeque;

use crate::message::{Nonsense, TELL, WINDOW, cost};

/// The messages of one side, as long as the other one has not passed them on.
#[derive(Debug)]
pub struct Said<M> {
    /// What all messages count.
    all: u64,
    /// What those count that the other side has passed on.
    taken: u64,
    /// The others, in order, each with what all messages count up to it.
    kept: VecDeque<(u64, M)>,
    /// How many of them, the last ones, are not on the line yet.
    due: usize,
}

impl<M> Default for Said<M> {
    fn default() -> Said<M> {
        Said {
            all: 0,
            taken: 0,
            kept: VecDeque::new(),
            due: 0,
        }
    }
}

impl<M: Clone> Said<M> {
    /// Adds a message with so many bytes of input or output.
    pub fn say(&mut self, message: M, bytes: usize) {
        self.all += u64::from(cost(bytes));
        self.kept.push_back((self.all, message));
        self.due += 1;
    }

    /// The next message that is to be put on the line.
    pub fn next_due(&mut self) -> Option<M> {
        let at = self.kept.len().checked_sub(self.due)?;
        let (_, message) = self.kept.get(at)?;
        self.due -= 1;
        Some(message.clone())
    }

    /// No more input or output is to be added until the other side has passed on some.
    pub fn is_full(&self) -> bool {
        self.all - self.taken >= u64::from(WINDOW)
    }

    /// The other side has passed on what counts so much.
    ///
    /// # Errors
    /// If that is more than was said.
    pub fn was_taken(&mut self, taken: u64) -> Result<(), Nonsense> {
        if taken > self.all {
            return Err(Nonsense);
        }
        self.taken = self.taken.max(taken);
        while self.kept.pop_front_if(|(end, _)| *end <= taken).is_some() {}
        self.due = self.due.min(self.kept.len());
        Ok(())
    }

    /// There is another line, and this is what the other side has heard and passed on. All that follows is due again.
    ///
    /// # Errors
    /// If that is more than was said.
    pub fn begin_again(&mut self, heard: u64, taken: u64) -> Result<(), Nonsense> {
        if taken > heard || heard > self.all {
            return Err(Nonsense);
        }
        self.was_taken(taken)?;
        let lost = self.kept.iter().filter(|(end, _)| *end > heard);
        self.due = lost.count();
        Ok(())
    }
}

/// The messages of the other side.
#[derive(Debug, Default)]
pub struct Heard {
    /// What all count.
    all: u64,
    /// What those count that were passed on.
    taken: u64,
    /// How much of that the other side was told.
    told: u64,
}

impl Heard {
    /// A message has come, with so many bytes of input or output.
    pub fn hear(&mut self, bytes: usize) {
        self.all += u64::from(cost(bytes));
    }

    /// So much was passed on, counted with [`cost`].
    pub fn pass_on(&mut self, cost: u32) {
        self.taken += u64::from(cost);
    }

    /// A message has come that there is nothing to pass on of.
    pub fn note(&mut self) {
        self.hear(0);
        self.pass_on(cost(0));
    }

    /// What was not passed on yet counts so much.
    pub fn waiting(&self) -> u64 {
        self.all.saturating_sub(self.taken)
    }

    /// What the other side is to be told now that was passed on.
    pub fn due(&mut self) -> Option<u64> {
        let is_worth_telling = self.taken - self.told >= u64::from(TELL);
        is_worth_telling.then(|| {
            self.told = self.taken;
            self.taken
        })
    }

    /// What was heard, and what was passed on: the other side is told that when there is another line.
    pub fn so_far(&mut self) -> (u64, u64) {
        self.told = self.taken;
        (self.all, self.taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(said: &mut Said<u32>) -> Vec<u32> {
        std::iter::from_fn(|| said.next_due()).collect()
    }

    proptest! {
        /// Whatever is lost, and whenever, each message is heard once, in order.
        #[test]
        fn nothing_is_lost_or_doubled(steps in prop::collection::vec((0_usize..3000, 0_usize..5, any::<bool>()), 1..60)) {
            let (mut said, mut heard) = (Said::default(), Heard::default());
            let (mut line, mut sizes, mut came) = (VecDeque::new(), Vec::new(), Vec::new());
            for (size, arrive, breaks) in steps {
                said.say(u32::try_from(sizes.len()).unwrap(), size);
                sizes.push(size);
                line.extend(drain(&mut said));
                for _ in 0..arrive {
                    let Some(message) = line.pop_front() else { break };
                    let size = sizes[message as usize];
                    heard.hear(size);
                    heard.pass_on(cost(size));
                    came.push(message);
                }
                if let Some(taken) = heard.due() {
                    said.was_taken(taken).unwrap();
                }
                if breaks {
                    line.clear();
                    let (all, taken) = heard.so_far();
                    said.begin_again(all, taken).unwrap();
                }
            }
            line.extend(drain(&mut said));
            came.extend(line);
            prop_assert_eq!(came, (0..u32::try_from(sizes.len()).unwrap()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_never_said_was_not_heard() {
        let mut said = Said::default();
        said.say(1, 100);
        assert_eq!(said.was_taken(133), Err(Nonsense));
        assert_eq!(said.begin_again(133, 0), Err(Nonsense));
        assert_eq!(said.begin_again(0, 132), Err(Nonsense));
        assert_eq!(said.begin_again(132, 132), Ok(()));
        assert_eq!(drain(&mut said), [0; 0]);
    }

    #[test]
    fn the_window_is_full_until_something_is_passed_on() {
        let (mut said, mut heard) = (Said::default(), Heard::default());
        while !said.is_full() {
            said.say((), 1000);
            heard.hear(1000);
        }
        assert_eq!(heard.due(), None);
        while heard.waiting() > 0 {
            heard.pass_on(cost(1000));
        }
        said.was_taken(heard.due().unwrap()).unwrap();
        assert!(!said.is_full());
    }
}
