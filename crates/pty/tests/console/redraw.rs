//! Redrawing.
