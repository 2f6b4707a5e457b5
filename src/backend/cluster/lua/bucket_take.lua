-- Takes one from each of the buckets KEYS, or nothing. ARGV as `take` has them.
return take(1, #KEYS, 1) or {'OK'}
