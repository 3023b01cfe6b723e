"""An extension of hldm for these tests: a small data set of which each reading takes as long as is asked for."""
