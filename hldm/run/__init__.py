"""One run on disk: directory, identity, lease, provenance, the first stage that it is given, requests to stop."""
