"""Worker processes: started, listened to, judged when they end, and started again."""
