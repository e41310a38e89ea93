"""Prediction over more digits than fit into memory: a job of shards, and the engines that do them."""
