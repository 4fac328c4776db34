"""What drives it: learner, loop, checkpoint and tracking."""
