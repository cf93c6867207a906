//! Nonsense that is near to sense: random changes of inputs, the same ones for the same seed.

/// A source of changes.
pub struct Mutator(u64);

/// Words on which lengths and numbers go wrong.
const WORDS: [u32; 8] = [
    0,
    1,
    4,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0004,
    0xffff_fffc,
    0xffff_ffff,
];

impl Mutator {
    /// A source that is determined by `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `limit`; 0 if there is none (xorshift64).
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.0 % limit).unwrap_or(0)
    }

    /// One of `inputs`, changed in some places.
    pub fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut data = self.one_of(inputs);
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            let until = (at + self.below(16)).min(data.len());
            match self.below(7) {
                0 => drop(data.drain(at..until)),
                1 => drop(data.splice(at..at, [self.below(256) as u8])),
                2 => {
                    let word = WORDS[self.below(WORDS.len())].to_be_bytes();
                    let end = (at + 4).min(data.len());
                    drop(data.splice(at..end, word));
                }
                3 => {
                    let part = data[at..until].to_vec();
                    drop(data.splice(at..at, part));
                }
                4 => {
                    let other = self.one_of(inputs);
                    let from = self.below(other.len() + 1);
                    drop(data.splice(at.., other[from..].iter().copied()));
                }
                5 => data.truncate(at),
                _ if at < data.len() => data[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        data
    }

    fn one_of(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        inputs
            .get(self.below(inputs.len()))
            .cloned()
            .unwrap_or_default()
    }
}
