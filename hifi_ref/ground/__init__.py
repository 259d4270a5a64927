"""What the ground is worth that hifi_ref stands on: which operations of jax's back ends here are exact.

`python -m hifi_ref.ground` prints it.
"""
