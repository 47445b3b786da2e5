# Completion of berth for bash. Load it with: source <(berth completion bash)

_berth_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" directive=0 words=() current prefix candidate
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]} - 1]}"
    # Readline takes a colon or an equals sign for the end of a word and replaces only what follows it.
    prefix="${current%"${current##*[:=]}"}"
    COMPREPLY=()
    while IFS= read -r candidate; do
        if [[ $candidate =~ ^:[0-9]+$ ]]; then
            directive="${candidate#:}"
            continue
        fi
        candidate="${candidate%%$'\t'*}"
        [[ $candidate == "$current"* ]] && COMPREPLY+=("${candidate#"$prefix"}")
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
    if ((directive & 4)); then
        compopt +o default 2>/dev/null
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -o default -F _berth_complete berth
