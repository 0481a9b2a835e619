"""The consuming engine: fetch, dispatch, commit, rebalance, drain."""
