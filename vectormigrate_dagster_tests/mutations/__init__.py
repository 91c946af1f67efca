"""Ways of spoiling a target that a validation has to notice, for every direction (H-22).

`python -m vectormigrate_dagster_tests.mutations` prints all of them with what noticed them.
"""
