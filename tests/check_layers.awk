# check_layers.awk - Report every #include that tests/layers.txt does not allow.
# Usage: awk -f tests/check_layers.awk tests/layers.txt FILE...
function unit(path,  n, p) {
    n = split(path, p, "/")
    return n > 1 ? p[1] : ""
}
FILENAME ~ /layers\.txt$/ {
    if (/^#/ || NF == 0) next
    if ($1 == "lib") { for (i = 3; i <= NF; i++) lib[$2, $i] = 1; libs[$2] = 1; next }
    known[$1] = 1
    for (i = 2; i <= NF; i++) allow[$1, $i] = 1
    next
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, q, "\""); from = unit(FILENAME); to = unit(q[2])
    if (to == "") { print FILENAME ":" FNR ": include by full path from the root: " q[2]; bad++ }
    else if (from != to && known[to] && !allow[from, to] && !allow[from, "*"]) {
        print FILENAME ":" FNR ": " from " may not include " to; bad++
    }
    if (q[2] ~ /_int\.h$/ && from != to && from != "tests") {
        print FILENAME ":" FNR ": " q[2] " is private to " to; bad++
    }
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    from = unit(FILENAME)
    for (l in libs) if (index($0, "<" l) && !lib[l, from] && from != "tests") {
        print FILENAME ":" FNR ": " from " may not include <" l "...>"; bad++
    }
}
END { exit bad > 0 }
