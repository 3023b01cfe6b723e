"""One run on disk: its directory, its identity, the first stage that it is given, where its numbers come from."""
