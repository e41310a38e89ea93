"""The store, in a folder or in S3, and the numbered lists that it keeps."""
