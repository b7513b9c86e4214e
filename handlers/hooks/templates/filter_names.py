"""The names that other tools use for filters and functions, and their counterparts in templates.

The tools include Ansible, Home Assistant, Liquid, Twig, Airflow, dbt, Terraform, and the expressions of GitHub Actions.
"""

from collections.abc import Collection, Mapping

_NO_TIME = "A template can't read the clock. Use a time in the payload, with the filter date."
_NO_REGULAR_EXPRESSIONS = "There are no regular expressions."
_NO_CODING = "There is no filter that encodes, decodes, or hashes a text."

# For each remedy, the names in lowercase and without underscores.
_NAMES: Mapping[str, str] = {
    "Use tojson: event.x | tojson.": "jsonencode tonicejson dump dumps pprint jsonify stringify json",
    "Use fromjson: event.x | fromjson.": "parsejson jsondecode loads",
    "There is no filter for YAML.": "toyaml toniceyaml fromyaml yaml yamlencode yamldecode",
    "Use date: event.x | date('%Y-%m-%d', tz='Europe/Berlin').": (
        "strftime strptime formatdate formatdatetime dateformat dateformats timeformat todatetime datetime asdatetime "
        "todate asdate formattime formattimestamp timestampcustom timestamplocal timestamputc timestamptodate "
        "parsedate parsetimestamp isoformat localtime aslocal ds dsnodash ts tsnodash"
    ),
    _NO_TIME: "now today utcnow todayat timestamp astimestamp totimestamp time epoch timesince ago timeago",
    f"{_NO_REGULAR_EXPRESSIONS} Use replace for a fixed text: event.x | replace('-', ' ').": (
        "regexreplace resub sub gsub replaceall replacefirst subst regexpreplace"
    ),
    f"{_NO_REGULAR_EXPRESSIONS} Use split, or a comparison such as 'x' in event.y.": (
        "regexsearch regexmatch regexfindall regexescape regexextract regexp regex match search matches findall "
        "test scan"
    ),
    "Use apify_name for the name of a dataset on Apify, and tags for tags on data.world.": (
        "slugify slug toslug parameterize kebabcase kebab snakecase dasherize sanitize hyphenate handleize handle "
        "urlslug dnsname"
    ),
    "Use limit: event.x | limit(60, '…').": (
        "truncate truncatechars truncatewords trunc ellipsis abbreviate shorten left maxlength limitto"
    ),
    "Use a range of characters or items: event.x[:10].": "substr substring slice mid right take head tail",
    _NO_CODING: (
        "b64decode b64encode base64decode base64encode base64 frombase64 tobase64 base64urlencode hash md5 sha1 sha256 "
        "sha512 hmac hmacsha256 passwordhash checksum crc32 hex unhex vault unvault gzip compress quotedprintable "
        "encode decode encrypt decrypt"
    ),
    "There are no random values.": "random randomint shuffle uuid touuid guid newguid",
    "Use join, which also accepts numbers: event.list | join(', ').": "implode joinlist strjoin",
    "Use split: event.x | split(',').": "explode splitlist splitlines tolist toarray strsplit lines",
    "Use ~ between the parts: event.x ~ '-' ~ event.y.": "concat append prepend add format printf sprintf",
    "Use length: event.x | length.": "len size strlen sizeof countof",
    "Use lower.": "lowercase downcase tolower tolowercase lcase",
    "Use upper.": "uppercase upcase toupper touppercase ucase",
    "Use title or capitalize.": "titlecase titleize ucfirst ucwords camelcase pascalcase",
    "Use trim.": "strip lstrip rstrip trimspace chomp stripnewlines ltrim rtrim",
    "Use replace: event.x | replace('.csv', '').": (
        "removeprefix removesuffix trimprefix trimsuffix remove removefirst cut"
    ),
    "Use an inline if: 'a' if event.x else 'b'.": "ternary iif yesno choose if when cond",
    "Use default, which replaces null, too, with a second argument: event.x | default('y', true).": (
        "coalesce ifnull nvl ifempty defaultifnone fallback orelse getordefault defaultto mandatory"
    ),
    "Use a comparison: 'x' in event.y.": "contains includes has haskey containsvalue",
    "Use a range of characters: event.x[:3] == 'abc', or event.x[-3:] == 'abc'.": (
        "startswith endswith hasprefix hassuffix beginswith"
    ),
    "Use int.": "toint tointeger parseint integer number tonumber asint atoi",
    "Use float.": "tofloat parsefloat asfloat decimal double",
    "Use string.": "str tostring text totext astext",
    "Use a comparison: event.x == 'true'.": "bool boolean tobool toboolean asbool",
    "Use round.": "floor ceil ceiling",
    "Use an operator: event.x + 1.": "plus minus times dividedby modulo mod subtract multiply divide pow",
    "Use a path or map: event.x.y, or event.list | map(attribute='y').": (
        "pluck jsonquery jmespath jsonpath jq query attr dig get getpath extract lookup collect community"
    ),
    "Use select, selectattr, reject, or rejectattr.": "where filter compact find withoutnulls removeempty rejectempty",
    "Use sort: event.list | sort(attribute='x').": "sortby orderby sortnatural sorted",
    "Use unique.": "uniq distinct dedupe deduplicate toset set",
    "Use max or min.": "maximum minimum greatest least",
    "Use list, which turns an object into the list of its keys.": "keys objectkeys mapkeys dictkeys",
    "Use items: event.x | items.": "dict2items entries toentries pairs iteritems topairs",
    "Use items: event.x | items | map('last').": "values objectvalues dictvalues",
    "Use filesizeformat.": "filesize humanreadable bytes formatbytes",
    "Use urlencode.": (
        "urlescape escapeurl quote uri encodeuri encodeuricomponent urlquote percentencode urlize cgiescape"
    ),
    "The result is JSON, and so needs no escapes.": (
        "escape e forceescape safe escapeonce html htmlescape xmlescape escapejs escapejson json5 striptags striphtml "
        "nl2br newlinetobr markdown xmlattr"
    ),
    "There is no filter for this purpose.": (
        "batch groupby flatten combine zip items2dict dict union intersect difference symmetricdifference center "
        "indent wordwrap basename dirname expanduser realpath ipaddr cartesian product permutations subelements "
        "env file pipe merge chunk transpose tosql currency money pluralize ordinal humanize intcomma"
    ),
}
_REMEDIES = {name: remedy for remedy, names in _NAMES.items() for name in names.split()}


def remedy_for(name: str, known: Collection[str]) -> str | None:
    """Return a remedy for the name of a filter that doesn't exist, or None for a name that no other tool has.

    `known` contains the names of the filters.
    """
    folded = _fold(name)
    if same := next((known_name for known_name in sorted(known) if _fold(known_name) == folded), None):
        is_same_word = same.casefold() == name.casefold()
        reason = "The names of filters are case-sensitive" if is_same_word else "The name here is different"
        return f"{reason}: write {same}."
    return _REMEDIES.get(folded)


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").rpartition(".")[2].casefold()
