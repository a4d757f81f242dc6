"""What the program and the tests call their job."""

JOB = "cycle"
