"""The gateway: takes requests in over REST and answers from the index and the bucket."""
