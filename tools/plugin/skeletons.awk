# Turns sdk/examples/KIND/{example.c,Makefile,README.md} into the table that `tenon-plugin new` writes from.
FNR == 1 {
  n = split (FILENAME, parts, "/")
  kind = parts[n - 1]
  if (files++)
    print "  },"
  printf "  { \"%s\", \"%s\",\n", kind, parts[n]
}
{
  gsub (/\\/, "&&")
  gsub (/"/, "\\\"")
  gsub (/\t/, "\\t")
  print "    \"" $0 "\\n\""
}
BEGIN {
  print "/* Made by skeletons.awk from sdk/examples. */\n#include \"skeletons.h\"\n"
  print "const ToolSkeleton tool_skeletons[] = {"
}
END {
  print "  },\n  { NULL, NULL, NULL },\n};"
}
