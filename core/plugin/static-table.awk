# Writes the table of the plugins that are linked in; `list` holds their names, separated by commas.
BEGIN {
  n = split (list, names, ",")
  print "/* Made by static-table.awk from configure's --enable-static-plugins. */"
  print "#include \"plugin/static.h\"\n\n#include <tenon/plugin.h>\n"
  for (i = 1; i <= n; i++) {
    symbols[i] = names[i]
    gsub (/[^A-Za-z0-9]/, "_", symbols[i])
    symbols[i] = symbols[i] "_LTX_tenon_plugin"
    print "extern const TnPlugin " symbols[i] ";"
  }
  print "\nconst lt_dlsymlist tn_static_symbols[] = {\n  { \"libtenon\", NULL },"
  for (i = 1; i <= n; i++) {
    print "  { \"" names[i] "\", NULL },"
    print "  { \"" symbols[i] "\", (void *) &" symbols[i] " },"
  }
  print "  { NULL, NULL },\n};"
}
