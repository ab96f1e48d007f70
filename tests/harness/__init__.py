"""Real services for tests: real certificates, real listeners, a real store on a real disk."""
