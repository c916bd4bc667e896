"""What becomes of each Trino function on DuckDB: the one list that `check`, the engine and the docs read."""

from __future__ import annotations

from forebay.sqltext.macros import BODIES
from forebay.sqltext.words import words

# Both engines give the same result for the same arguments.
SAME = words(
    """
    abs acos asin atan atan2 bool_and bool_or cbrt   coalesce corr cos cosh count
    covar_pop covar_samp cume_dist degrees dense_rank exp first_value  grouping
    histogram lag last_value lead ln log10 log2 lower lpad max min nth_value ntile nullif
    percent_rank pi power pow radians rank regr_intercept regr_slope  row_number rpad
     sin sinh sqrt starts_with stddev stddev_pop stddev_samp strpos sum tan tanh translate upper
    var_pop var_samp variance year quarter month week day hour minute second map_keys map_values
    map_entries map_from_entries map_concat flatten length
    """
)

# The same thing under DuckDB's name.
RENAMED = {
    "any_value": "any_value",
    "approx_distinct": "approx_count_distinct",
    "arbitrary": "any_value",
    "array_agg": "array_agg",
    "bitwise_and_agg": "bit_and",
    "bitwise_or_agg": "bit_or",
    "bitwise_xor_agg": "bit_xor",
    "bitwise_xor": "xor",
    "chr": "chr",
    "codepoint": "unicode",
    "concat_ws": "concat_ws",
    "date_diff": "date_sub",
    "day_of_month": "day",
    "day_of_week": "isodow",
    "dow": "isodow",
    "day_of_year": "dayofyear",
    "doy": "dayofyear",
    "every": "bool_and",
    "from_base64": "from_base64",
    "from_hex": "unhex",
    "from_unixtime": "to_timestamp",
    "from_utf8": "decode",
    "geometric_mean": "geomean",
    "is_finite": "isfinite",
    "is_infinite": "isinf",
    "is_nan": "isnan",
    "last_day_of_month": "last_day",
    "levenshtein_distance": "levenshtein",
    "hamming_distance": "hamming",
    "max_by": "arg_max_null",
    "min_by": "arg_min_null",
    "regexp_extract_all": "regexp_extract_all",
    "regexp_like": "regexp_matches",
    "regexp_split": "string_split_regex",
    "reverse": "reverse",
    "split": "string_split",
    "to_base64": "to_base64",
    "to_hex": "hex",
    "to_unixtime": "epoch",
    "to_utf8": "encode",
    "truncate": "trunc",
    "uuid": "uuid",
    "week_of_year": "week",
    "year_of_week": "isoyear",
    "yow": "isoyear",
}

# Written differently; see duckdb.py.
REWRITTEN = words(
    """
    all_match any_match none_match approx_percentile at_timezone avg bitwise_and cardinality bitwise_not bitwise_or
    concat count_if date date_add date_format date_parse e element_at filter format_datetime
    from_iso8601_date from_iso8601_timestamp if infinity json_format listagg localtimestamp
    current_timestamp log map md5 nan now parse_datetime rand random regexp_replace replace row sequence
    sha1 sha256 substring transform trim ltrim rtrim try with_timezone json_extract
    json_extract_scalar
    """
)

# A DuckDB macro of ours stands in for it (operators' helpers have no Trino name and are left out).
_HELPERS = words(
    "divide plus minus avg_of moment scientific digits millis seconds random_up_to random_between to_text"
)
MACRO = (
    frozenset(name for name in BODIES if name not in _HELPERS and not name.startswith(("to_", "try_")))
    - REWRITTEN
)

# Known to Trino, wrong or missing here: what to write instead.
REFUSED = {
    "approx_most_frequent": "count and order instead",
    "approx_set": "use approx_distinct",
    "bit_count": "write the digits out with bitwise_and",
    "array_histogram": "unnest the array and count",
    "arrays_overlap": "use cardinality(array_intersect(a, b)) > 0",
    "checksum": "compare counts and sums instead",
    "combinations": "unnest the array twice",
    "crc32": "use md5",
    "current_user": "pass it as a parameter",
    "format": "join text with || and cast",
    "format_number": "cast to varchar",
    "from_base": "cast decimal text",
    "from_unixtime_nanos": "use from_unixtime",
    "hmac_sha256": "sign outside SQL",
    "human_readable_seconds": "format it where it is shown",
    "json_array": "cast an array to json",
    "json_array_contains": "cast to an array and use contains",
    "json_array_get": "use json_extract(j, '$[0]')",
    "json_exists": "use json_extract(j, '$.path') IS NOT NULL",
    "json_object": "cast a map or row to json",
    "json_query": "use json_extract",
    "json_size": "use json_array_length",
    "json_value": "use json_extract_scalar",
    "kurtosis": "DuckDB's differs in its correction; compute it from sums",
    "skewness": "DuckDB's differs in its correction; compute it from sums",
    "map_agg": "use map_from_entries(array_agg(row(k, v)))",
    "map_filter": "filter before building the map",
    "map_union": "unnest and aggregate",
    "map_zip_with": "unnest and join",
    "multimap_agg": "use array_agg per key",
    "ngrams": "use sequence and slice",
    "normalize": "normalise text where it is ingested",
    "numeric_histogram": "use width arithmetic and GROUP BY",
    "parse_duration": "keep seconds as a number",
    "reduce": "unnest and aggregate",
    "reduce_agg": "use an ordinary aggregate",
    "regexp_position": "use strpos",
    "sha512": "use sha256",
    "shuffle": "order by a column",
    "soundex": "use levenshtein_distance",
    "split_to_map": "use split and element_at",
    "split_to_multimap": "use split and element_at",
    "timezone_hour": "values keep no zone here",
    "timezone_minute": "values keep no zone here",
    "to_base": "format it where it is shown",
    "to_char": "use date_format",
    "to_date": "use cast(… AS date)",
    "to_iso8601": "use date_format",
    "to_timestamp": "use cast(… AS timestamp)",
    "transform_keys": "unnest and rebuild the map",
    "transform_values": "unnest and rebuild the map",
    "typeof": "DuckDB's type names differ",
    "url_decode": "decode where it is ingested",
    "url_encode": "encode where it is used",
    "url_extract_host": "use regexp_extract",
    "url_extract_path": "use regexp_extract",
    "version": "it would name another engine",
    "width_bucket": "use floor((x - low) / width)",
    "word_stem": "stem where it is ingested",
    "xxhash64": "use md5",
    "zip": "unnest with ordinality and join",
    "zip_with": "unnest with ordinality and join",
}


# Trino's other functions: nobody has compared them with anything of DuckDB's.
NOT_HERE = words(
    """
    bar beta_cdf bitwise_left_shift bitwise_right_shift bitwise_right_shift_arithmetic color contains_sequence
    cosine_distance cosine_similarity current_groups current_timezone dot_product empty_approx_set euclidean_distance
    exclude_columns from_base32 from_base64url from_big_endian_32 from_big_endian_64 from_ieee754_32 from_ieee754_64
    from_iso8601_timestamp_nanos hash_counts hmac_md5 hmac_sha1 hmac_sha512 intersection_cardinality inverse_beta_cdf
    inverse_normal_cdf is_json_scalar jaccard_index luhn_check make_set_digest merge merge_set_digest
    multimap_from_entries murmur3 normal_cdf parse_data_size parse_presto_data_size qdigest_agg quantile_at_value render
    rgb spooky_hash_v2_32 spooky_hash_v2_64 t_cdf t_pdf table_changes tdigest_agg timezone to_base32 to_base64url
    to_big_endian_32 to_big_endian_64 to_ieee754_32 to_ieee754_64 to_milliseconds trim_array url_extract_fragment
    url_extract_parameter url_extract_port url_extract_protocol url_extract_query value_at_quantile values_at_quantiles
    wilson_interval_lower wilson_interval_upper
    """
)


def carried(name: str) -> str:
    """How a Trino function is carried over: same, renamed, rewritten, macro, refused or unknown."""
    if name in REFUSED or name in NOT_HERE:
        return "refused"
    if name in REWRITTEN:
        return "rewritten"
    if name in MACRO:
        return "macro"
    if name in SAME or RENAMED.get(name) == name:
        return "same"
    return "renamed" if name in RENAMED else "unknown"


def known_functions() -> tuple[str, ...]:
    """Every function that can be used, sorted."""
    return tuple(sorted(SAME | set(RENAMED) | REWRITTEN | MACRO))


# What a user of a function should know beside its name.
NOTES = {
    "approx_percentile": "without weights",
    "at_timezone": "where local time is asked for",
    "avg": "keeps a decimal's scale",
    "cardinality": "of a map: only around a map function",
    "date_add": "the unit is a written string",
    "date_diff": "counts whole units, as Trino does",
    "date_format": "the pattern is a written string",
    "date_parse": "the pattern is a written string",
    "format_datetime": "the pattern is a written string without a zone",
    "from_unixtime": "one argument",
    "json_extract": "the path is a written string of $, .name and [0]",
    "json_extract_scalar": "the path is a written string of $, .name and [0]",
    "length": "of text",
    "map": "of two arrays",
    "parse_datetime": "the pattern is a written string",
    "regexp_replace": "the replacement is a written string",
    "reverse": "of text",
    "split": "two arguments",
    "strpos": "two arguments",
    "with_timezone": "inside AT TIME ZONE or a comparison",
}
