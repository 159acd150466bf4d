"""Problems and a model or a server become responses in a resumable log; free baselines that need no training."""
