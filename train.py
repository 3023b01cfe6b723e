"""Train and judge latent diffusion models.

    python train.py                                                      one run with the defaults of conf/
    python train.py geometry=hybrid curvature=learnable seed=3           one run of your own
    python train.py -m geometry=poincare,euclidean curvature=0.1,1.0     a grid of runs, then a comparison
    python train.py -m seed=0,1,2 hardware=slurm_gpu                     the same as jobs of SLURM; it returns at once
    python train.py -m seed=0,1,2 plan=true                              which runs, how long, where: nothing is started
    python train.py experiment=smoke                                     everything once, in a minute
    python train.py --help                                               all groups and their options
    python train.py --cfg job                                            the configuration, without running it

A repeated command finishes what is missing: finished runs are not run again, runs that were broken off are resumed.
"""

import sys

from hldm.start import check_python

if __name__ == "__main__":
    check_python()
    from hldm import console
    from hldm.commands import train

    sys.exit(console.run(lambda: train.main(sys.argv[1:])))
