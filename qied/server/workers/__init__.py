"""Worker processes: started, listened to, judged when they end, started again."""
