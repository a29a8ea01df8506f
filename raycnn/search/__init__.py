"""The search: an Optuna study that Ray Tune drives over warm slots, finals, and scoring. Ray and Optuna begin here."""
