"""An extension of hldm for these tests: small data, and a second stage of which each step takes as long as is asked."""
