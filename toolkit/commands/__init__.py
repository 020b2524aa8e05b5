"""Commands: the work of each script in one module, its flags in another, `*_flags`, which imports no torch.

`main` has the table from which the scripts and the `glide` command are made.
"""
