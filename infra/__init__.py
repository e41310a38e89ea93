"""What the job runs on and against: the practice competition, cloud resources, work pools."""
