"""Jobs on more than one machine: shards of trees, and a vault's sealing, on a Dask cluster."""
