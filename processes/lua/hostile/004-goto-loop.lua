-- must: gas
::again:: goto again
