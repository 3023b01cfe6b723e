"""Many runs: the points of a grid, the plan, execution, search, and the comparison of cells over seeds.

Nothing here imports torch: the process that starts runs stays light, and answers wrong values at once.
"""
