"""Operate the job: the local Prefect server, pools, deployments, automations, checks and status."""
