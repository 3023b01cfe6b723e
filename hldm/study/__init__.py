"""Many runs: the points of a grid, the plan, execution, the comparison, and the statistics of cells over seeds.

Nothing here imports torch: the process that starts runs stays light, and answers wrong values at once.
"""
