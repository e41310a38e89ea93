"""The job's memory: create-only objects and numbered lists, in a folder or in S3."""
