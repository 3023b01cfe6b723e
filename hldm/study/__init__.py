"""Many runs: their configurations, identities, directories, plan, execution and comparison.

Nothing here imports torch: the process that starts runs stays light, and answers wrong values at once.
"""
