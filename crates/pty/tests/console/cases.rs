//! Cases made by hand, for every sequence.
