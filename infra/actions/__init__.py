"""What `.github/workflows/nightly.yml` runs besides the night itself."""
