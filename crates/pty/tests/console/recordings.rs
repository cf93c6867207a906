//! What real programs have written.
