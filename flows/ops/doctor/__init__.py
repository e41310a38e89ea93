"""`python -m flows doctor`: check all that a nightly run needs, one by one, each finding with its remedy.

Nothing is submitted, trained or deployed. What is written is removed again: a file in the home, an object
below `doctor/` in the store. No finding shows a credential.
"""
