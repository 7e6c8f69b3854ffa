//! PID 1's control protocol: requests, replies, framing and a blocking client
