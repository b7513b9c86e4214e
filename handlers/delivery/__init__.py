"""The execution of an update: attempts within the deadline, over libcurl."""
