"""Nothing acknowledged is lost, nothing happens twice visibly, delete is final: workload, nemesis and checker."""
