/* In the guest of `cargo xtask bench guest`: what the compiler works on. It is never run. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define NAMED(name) PASTE(name##_, NUMBER)

/* A table of words and how often each occurs. */
struct entry {
    struct entry *next;
    uint64_t hash;
    unsigned long count;
    char word[];
};

struct table {
    struct entry **rows;
    size_t size, used;
};

static uint64_t hash_of(const char *word, size_t length)
{
    uint64_t hash = 14695981039346656037u + NUMBER;

    while (length--)
        hash = (hash ^ (unsigned char)*word++) * 1099511628211u;
    return hash;
}

static int grow(struct table *table)
{
    size_t size = table->size ? 2 * table->size : 64;
    struct entry **rows = calloc(size, sizeof *rows);

    if (!rows)
        return -1;
    for (size_t n = 0; n < table->size; n++)
        for (struct entry *entry = table->rows[n], *next; entry; entry = next) {
            next = entry->next;
            entry->next = rows[entry->hash % size];
            rows[entry->hash % size] = entry;
        }
    free(table->rows);
    table->rows = rows;
    table->size = size;
    return 0;
}

static struct entry *entry_of(struct table *table, const char *word, size_t length)
{
    uint64_t hash = hash_of(word, length);
    struct entry *entry;

    if (table->used >= table->size && grow(table) < 0)
        return NULL;
    for (entry = table->rows[hash % table->size]; entry; entry = entry->next)
        if (entry->hash == hash && !strncmp(entry->word, word, length) && !entry->word[length])
            return entry;
    entry = malloc(sizeof *entry + length + 1);
    if (!entry)
        return NULL;
    memcpy(entry->word, word, length);
    entry->word[length] = '\0';
    entry->hash = hash;
    entry->count = 0;
    entry->next = table->rows[hash % table->size];
    table->rows[hash % table->size] = entry;
    table->used++;
    return entry;
}

static int by_count(const void *left, const void *right)
{
    const struct entry *const *a = left, *const *b = right;

    return ((*a)->count < (*b)->count) - ((*a)->count > (*b)->count);
}

int NAMED(count_words)(FILE *from, FILE *to)
{
    struct table table = {0};
    struct entry **all, *entry;
    char line[1024];
    size_t found = 0;

    while (fgets(line, sizeof line, from))
        for (char *at = line; *at;) {
            size_t length = 0;

            while (*at && !isalnum((unsigned char)*at))
                at++;
            while (isalnum((unsigned char)at[length])) {
                at[length] = (char)tolower((unsigned char)at[length]);
                length++;
            }
            if (length && !(entry = entry_of(&table, at, length)))
                return -1;
            if (length)
                entry->count++;
            at += length;
        }
    all = malloc((table.used + 1) * sizeof(struct entry *));
    if (!all)
        return -1;
    for (size_t n = 0; n < table.size; n++)
        for (entry = table.rows[n]; entry; entry = entry->next)
            all[found++] = entry;
    qsort(all, found, sizeof(struct entry *), by_count);
    for (size_t n = 0; n < found; n++)
        fprintf(to, "%8lu %s\n", all[n]->count, all[n]->word);
    free(all);
    return 0;
}

/* Numbers: what the compiler unrolls and vectorises. */
#define MATRIX(type, size)                                                                                   \
    void NAMED(multiply_##type##_##size)(type a[size][size], type b[size][size], type c[size][size])         \
    {                                                                                                        \
        for (int i = 0; i < size; i++)                                                                       \
            for (int j = 0; j < size; j++) {                                                                 \
                type sum = 0;                                                                                \
                for (int k = 0; k < size; k++)                                                               \
                    sum += a[i][k] * b[k][j];                                                                \
                c[i][j] = sum;                                                                               \
            }                                                                                                \
    }                                                                                                        \
    void NAMED(sort_##type##_##size)(type values[size])                                                      \
    {                                                                                                        \
        for (int i = 1; i < size; i++)                                                                       \
            for (int j = i; j > 0 && values[j - 1] > values[j]; j--) {                                       \
                type value = values[j];                                                                      \
                values[j] = values[j - 1];                                                                   \
                values[j - 1] = value;                                                                       \
            }                                                                                                \
    }                                                                                                        \
    type NAMED(evaluate_##type##_##size)(const type values[size], const char *formula)                       \
    {                                                                                                        \
        type stack[size] = {0};                                                                              \
        int top = 0;                                                                                         \
        for (; *formula && top >= 0 && top < size; formula++)                                                \
            switch (*formula) {                                                                              \
            case '+': if (top > 1) { stack[top - 2] += stack[top - 1]; } top--; break;                       \
            case '-': if (top > 1) { stack[top - 2] -= stack[top - 1]; } top--; break;                       \
            case '*': if (top > 1) { stack[top - 2] *= stack[top - 1]; } top--; break;                       \
            default: stack[top++] = values[(unsigned char)*formula % size];                                  \
            }                                                                                                \
        return stack[0];                                                                                     \
    }

MATRIX(int, 4) MATRIX(int, 16) MATRIX(int, 100)
MATRIX(long, 4) MATRIX(long, 16) MATRIX(long, 100)
MATRIX(float, 4) MATRIX(float, 16) MATRIX(float, 100)
MATRIX(double, 4) MATRIX(double, 16) MATRIX(double, 100)
