//! StreamJob and Savepoint: the resources a Weir user writes.
