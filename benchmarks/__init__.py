"""One file per question, each with its back-of-the-envelope estimate on top; peers run beside us in the same run."""
