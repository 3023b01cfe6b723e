"""Draw samples from a trained run:

    python -m hldm.generate run=outputs/main/<run id> n=2000 seed=0 out=samples.npz
    python -m hldm.generate run=outputs/main/<run id> n=100 out=grid.png
    python -m hldm.generate run=outputs/main/<run id> n=16 label=7 out=sevens.png

The npz has the field's usual form: `arr_0` images uint8 (N, H, W, C), `arr_1` labels int64 (N,); classes are balanced.
"""
