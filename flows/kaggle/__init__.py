"""A competition on kaggle.com, or on a server that speaks its protocol: see `competition.Competition`."""
