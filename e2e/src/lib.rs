//! What Weir does on a real cluster, as its users do it: the tests are in `tests/`.
