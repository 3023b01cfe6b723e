"""Every setting of a run, written once: its type, its range, a sentence about it, and what it means for identity.

Nothing here imports torch: a wrong value is answered at once, and the process that starts runs stays light.
Read `schema` first, then a section that interests you, such as `autoencoder`.
"""
