"""What a person sees of a run: progress, log lines, the scorecard, its report with pictures, the history."""
