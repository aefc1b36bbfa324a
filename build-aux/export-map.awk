# Prints the linker map for the functions marked TN_API in the headers given.
/^TN_API[ \t]/ {
  line = $0
  sub (/^TN_API[ \t]+/, "", line)
  if (match (line, /tn_[a-z0-9_]+ *\(/)) {
    name = substr (line, RSTART, RLENGTH)
    sub (/ *\($/, "", name)
    names[name] = 1
  }
}
END {
  print "TENON_1.0 {\n  global:"
  n = sort_names()
  for (i = 1; i <= n; i++)
    print "    " sorted[i] ";"
  print "  local: *;\n};"
}
function sort_names(name, n, i, j, t)
{
  for (name in names)
    sorted[++n] = name
  for (i = 2; i <= n; i++) {
    t = sorted[i]
    for (j = i - 1; j > 0 && sorted[j] > t; j--)
      sorted[j + 1] = sorted[j]
    sorted[j + 1] = t
  }
  return n
}
