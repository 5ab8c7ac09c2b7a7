/* Scheme ``context`` compiled: the bytes of codec/context.py, which says what they are.

   Here every spike adds its weights to the logits of the sites around it once it is known: those of
   its own timestep that come later, and those of the next one. All of it is integers of 16 bits, and
   tables whose sums could leave those are refused: so the sums are those that NumPy makes of exact
   floats. The coder is constriction's stack coder (words of 32 bits, a state of 64, probabilities of
   24), written out for two symbols.

   Payloads come from strangers: nothing is read or written by a number that one holds. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FIELD 9
#define COLOURS 2
#define HALVES 2
#define BLOCK 8 /* channels: what a vector instruction takes */
#define PRECISION 24
#define WORD_BITS 32
#define WORD_BYTES 4
#define ONE (UINT32_C(1) << PRECISION)
#define RELEASE_GIL_FROM 16384 /* sites: below, giving it up costs more than it frees */

typedef struct {
    Py_ssize_t start, stop; /* channels */
    Py_ssize_t first, last; /* the blocks that they are in, filled up with zeros */
} Half;

typedef struct {
    PyObject_HEAD
    Py_ssize_t timesteps, channels, width;
    Py_ssize_t area;   /* places of a channel */
    Py_ssize_t padded; /* the same with a border of one */
    Py_ssize_t halves;
    Half half[HALVES];
    Py_ssize_t lanes;         /* of all blocks: where the logits of a place's channels are */
    Py_ssize_t *lane;         /* of each channel */
    Py_ssize_t limit;         /* largest place in the table */
    int16_t *weights;         /* [T, colour, 2 C, block, 9, BLOCK], of a spike of that colour */
    int16_t *bias;            /* [T, padded, lanes], the middle of the table added */
    uint32_t *silence;        /* by logit, of 2^24 */
    Py_ssize_t ranks[COLOURS + 1]; /* where each colour begins and the last one ends */
    Py_ssize_t *place;        /* of each rank, in the order of coding: white ones first */
    Py_ssize_t *at;           /* where the logits of each rank are, in the padded field */
    Py_ssize_t around[FIELD]; /* from there to its neighbours */
} Coder;

typedef struct {
    int32_t rank, channel;
} Spike;

/* Logits or weights of a block: a register, by an extension that GCC and Clang have. */
typedef int16_t Block __attribute__((vector_size(BLOCK * sizeof(int16_t))));

/* Room for one image. */
typedef struct {
    int16_t *now, *next; /* [padded, lanes]: logits as far as they are known */
    Spike *spikes;       /* of one pass */
} Room;

static void
room_free(Room *room)
{
    free(room->now);
    free(room->next);
    free(room->spikes);
}

static int
room_take(const Coder *self, Room *room)
{
    size_t logits = (size_t)(self->padded * self->lanes) * sizeof(int16_t);
    room->now = malloc(logits);
    room->next = malloc(logits);
    room->spikes = malloc((size_t)(self->area * self->channels) * sizeof(Spike));
    if (room->now && room->next && room->spikes)
        return 0;
    room_free(room);
    PyErr_NoMemory();
    return -1;
}

static void
begin_timestep(const Coder *self, Room *room, Py_ssize_t t)
{
    size_t logits = (size_t)(self->padded * self->lanes) * sizeof(int16_t);
    int16_t *known = room->next;
    room->next = room->now;
    room->now = known;
    if (t == 0)
        memcpy(room->now, self->bias, logits);
    if (t + 1 < self->timesteps)
        memcpy(room->next, (const char *)self->bias + (size_t)(t + 1) * logits, logits);
}

/* Let spikes of one place tell on the logits of one block there and around. */
static inline void
tell(const Coder *self, int16_t *onto, const int16_t *rows, Py_ssize_t stride, const Spike *spikes,
     Py_ssize_t count)
{
    Block sums[FIELD];
    for (int field = 0; field < FIELD; field++)
        memcpy(&sums[field], onto + self->around[field], sizeof(Block));
    for (Py_ssize_t i = 0; i < count; i++) {
        const int16_t *row = rows + spikes[i].channel * stride;
        for (int field = 0; field < FIELD; field++, row += BLOCK) {
            Block weights;
            memcpy(&weights, row, sizeof(Block));
            sums[field] += weights;
        }
    }
    for (int field = 0; field < FIELD; field++)
        memcpy(onto + self->around[field], &sums[field], sizeof(Block));
}

/* Let the spikes of one pass tell on the logits that depend on them, place by place. */
static void
spread(const Coder *self, Room *room, Py_ssize_t t, Py_ssize_t h, int colour, Py_ssize_t count)
{
    Py_ssize_t blocks = self->lanes / BLOCK, stride = FIELD * self->lanes;
    Py_ssize_t of_timestep = COLOURS * 2 * self->channels * stride;
    const int16_t *before = self->weights + t * of_timestep + colour * 2 * self->channels * stride;
    const int16_t *now = before + self->channels * stride;
    const int16_t *next = t + 1 < self->timesteps ? before + of_timestep : NULL;
    /* White ones tell on their own half's black ones, and all on the later half. */
    Py_ssize_t first = colour == 0 ? self->half[h].first : self->half[h].last;
    const Spike *spikes = room->spikes, *end = spikes + count;
    for (Py_ssize_t here = 0; spikes < end; spikes += here) {
        Py_ssize_t at = self->at[spikes->rank];
        for (here = 1; spikes + here < end && spikes[here].rank == spikes->rank;)
            here++;
        for (Py_ssize_t block = first; block < blocks; block++)
            tell(self, room->now + at + block * BLOCK, now + block * FIELD * BLOCK, stride, spikes,
                 here);
        for (Py_ssize_t block = 0; next && block < blocks; block++)
            tell(self, room->next + at + block * BLOCK, next + block * FIELD * BLOCK, stride,
                 spikes, here);
    }
}

/* What is done with a site, given its chance of silence; whether it spikes. */
typedef int Visit(void *with, uint32_t silence, uint8_t *site);

/* Visit the sites of spikes [t, C, H, W] in the order of coding. */
static inline void
walk(const Coder *self, Room *room, Py_ssize_t timesteps, uint8_t *spikes, Visit *visit, void *with)
{
    /* In names of their own: a byte that is written might be any of theirs to a compiler. */
    const uint32_t *silence = self->silence;
    const Py_ssize_t *at = self->at, *place = self->place;
    const Py_ssize_t area = self->area;
    const int limit = (int)self->limit;
    Spike *found = room->spikes;
    for (Py_ssize_t t = 0; t < timesteps; t++, spikes += self->channels * area) {
        begin_timestep(self, room, t);
        for (Py_ssize_t h = 0; h < self->halves; h++)
            for (int colour = 0; colour < COLOURS; colour++) {
                const Half half = self->half[h];
                const int16_t *of_half = room->now + half.first * BLOCK;
                const Py_ssize_t end = self->ranks[colour + 1];
                Py_ssize_t count = 0;
                for (Py_ssize_t rank = self->ranks[colour]; rank < end; rank++) {
                    const int16_t *logits = of_half + at[rank];
                    uint8_t *site = spikes + place[rank] + half.start * area;
                    for (Py_ssize_t c = half.start; c < half.stop; c++, site += area) {
                        int logit = *logits++;
                        logit = logit < 0 ? 0 : logit > limit ? limit : logit;
                        found[count] = (Spike){(int32_t)rank, (int32_t)c};
                        count += visit(with, silence[logit], site);
                    }
                }
                spread(self, room, t, h, colour, count);
            }
    }
}

/* Where what a site is lies in 2^24: from where on, and how much of it. Silence comes first. */
typedef struct {
    uint32_t left, chance;
} Part;

static inline Part
part_of(uint32_t spike, uint32_t silence)
{
    uint32_t all = 0 - spike; /* no branch: nobody foretells a spike */
    return (Part){silence & all, silence ^ ((silence ^ (ONE - silence)) & all)};
}

/* Note it, in the order of coding. */
static int
note_site(void *with, uint32_t silence, uint8_t *site)
{
    Part **to = with;
    uint32_t spike = *site != 0;
    *(*to)++ = part_of(spike, silence);
    return (int)spike;
}

static void
put_word(uint8_t *to, uint32_t word)
{
    for (int i = 0; i < WORD_BYTES; i++)
        to[i] = (uint8_t)(word >> (8 * i));
}

/* Encode, the last site first; bytes written without the zeros at their end. */
static Py_ssize_t
push_all(const Part *parts, Py_ssize_t sites, uint8_t *to)
{
    uint64_t state = 0;
    Py_ssize_t size = 0;
    while (sites--) {
        Part part = parts[sites];
        if (state >> (2 * WORD_BITS - PRECISION) >= part.chance) {
            put_word(to + size, (uint32_t)state);
            size += WORD_BYTES;
            state >>= WORD_BITS;
        }
        state = (state / part.chance) << PRECISION | (part.left + state % part.chance);
    }
    for (; state; state >>= WORD_BITS, size += WORD_BYTES)
        put_word(to + size, (uint32_t)state);
    while (size && !to[size - 1])
        size--;
    return size;
}

typedef struct {
    const uint8_t *payload;
    Py_ssize_t size;
    Py_ssize_t words; /* not yet read: from the end to the beginning */
    uint64_t state;
} Stack;

static uint32_t
pop_word(Stack *stack)
{
    Py_ssize_t at = --stack->words * WORD_BYTES;
    uint32_t word = 0;
    for (Py_ssize_t i = 0; i < WORD_BYTES && at + i < stack->size; i++)
        word |= (uint32_t)stack->payload[at + i] << (8 * i);
    return word;
}

static void
refill(Stack *stack)
{
    if (stack->state >> WORD_BITS == 0 && stack->words)
        stack->state = stack->state << WORD_BITS | pop_word(stack);
}

static int
pop_site(void *with, uint32_t silence, uint8_t *site)
{
    Stack *stack = with;
    uint32_t quantile = (uint32_t)stack->state & (ONE - 1);
    uint32_t spike = quantile >= silence;
    Part part = part_of(spike, silence);
    stack->state = (stack->state >> PRECISION) * part.chance + (quantile - part.left);
    refill(stack);
    return *site = (uint8_t)spike;
}

static PyObject *
wrong_size(const char *what, Py_ssize_t found, Py_ssize_t wanted)
{
    return PyErr_Format(PyExc_ValueError, "%s of %zd bytes, wanted %zd", what, found, wanted);
}

/* Whole timesteps in so many bytes of spikes; 0 with an error set where they are not. */
static Py_ssize_t
whole_timesteps(const Coder *self, Py_ssize_t bytes)
{
    Py_ssize_t sites = self->channels * self->area, timesteps = bytes / sites;
    if (timesteps < 1 || timesteps > self->timesteps || timesteps * sites != bytes) {
        PyErr_Format(PyExc_ValueError, "spikes of %zd sites, wanted 1 to %zd timesteps of %zd",
                     bytes, self->timesteps, sites);
        return 0;
    }
    return timesteps;
}

static PyObject *
encode_whole(const Coder *self, const Py_buffer *spikes)
{
    Py_ssize_t sites = spikes->len, timesteps = whole_timesteps(self, sites);
    if (!timesteps)
        return NULL;
    /* A site adds no more bits than a probability has; the state is two words more. */
    size_t most = ((size_t)sites * PRECISION / WORD_BITS + 3) * WORD_BYTES;
    Part *parts = malloc((size_t)sites * sizeof(Part)), *next = parts;
    uint8_t *written = malloc(most);
    PyObject *payload = NULL;
    Room room;
    if (!parts || !written)
        PyErr_NoMemory();
    else if (room_take(self, &room) == 0) {
        PyThreadState *thread = sites < RELEASE_GIL_FROM ? NULL : PyEval_SaveThread();
        walk(self, &room, timesteps, spikes->buf, note_site, &next);
        Py_ssize_t size = push_all(parts, sites, written);
        if (thread)
            PyEval_RestoreThread(thread);
        room_free(&room);
        payload = PyBytes_FromStringAndSize((const char *)written, size);
    }
    free(parts);
    free(written);
    return payload;
}

static PyObject *
coder_encode(PyObject *object, PyObject *argument)
{
    Py_buffer spikes;
    if (PyObject_GetBuffer(argument, &spikes, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *payload = encode_whole((const Coder *)object, &spikes);
    PyBuffer_Release(&spikes);
    return payload;
}

/* Decode one image; whether its payload is the code of one. */
static uint8_t
decode_one(const Coder *self, Room *room, Stack stack, Py_ssize_t timesteps, uint8_t *to)
{
    refill(&stack);
    refill(&stack);
    walk(self, room, timesteps, to, pop_site, &stack);
    return !stack.words && !stack.state; /* nothing is left over */
}

/* Stacks of a tuple of bytes; NULL with an error set where it holds something else. */
static Stack *
take_stacks(PyObject *payloads, Py_ssize_t count)
{
    Stack *stacks = calloc(count ? (size_t)count : 1, sizeof(Stack));
    if (!stacks)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; stacks && i < count; i++) {
        char *payload;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(payloads, i), &payload, &size) < 0) {
            free(stacks);
            return NULL;
        }
        Py_ssize_t words = size / WORD_BYTES + (size % WORD_BYTES != 0);
        stacks[i] = (Stack){(const uint8_t *)payload, size, words, 0};
    }
    return stacks;
}

static PyObject *
decode_each(const Coder *self, const Stack *stacks, Py_ssize_t count, Py_ssize_t timesteps)
{
    Py_ssize_t sites = timesteps * self->channels * self->area;
    if (count > PY_SSIZE_T_MAX / sites)
        return PyErr_NoMemory();
    PyObject *spikes = PyByteArray_FromStringAndSize(NULL, count * sites);
    PyObject *whole = PyByteArray_FromStringAndSize(NULL, count);
    Room room;
    if (!spikes || !whole || room_take(self, &room) < 0) {
        Py_XDECREF(spikes);
        Py_XDECREF(whole);
        return NULL;
    }
    uint8_t *to = (uint8_t *)PyByteArray_AsString(spikes);
    uint8_t *found = (uint8_t *)PyByteArray_AsString(whole);
    PyThreadState *thread = count * sites < RELEASE_GIL_FROM ? NULL : PyEval_SaveThread();
    for (Py_ssize_t i = 0; i < count; i++)
        found[i] = decode_one(self, &room, stacks[i], timesteps, to + i * sites);
    if (thread)
        PyEval_RestoreThread(thread);
    room_free(&room);
    return Py_BuildValue("NN", spikes, whole);
}

static PyObject *
coder_decode(PyObject *object, PyObject *args)
{
    const Coder *self = (const Coder *)object;
    PyObject *payloads;
    Py_ssize_t timesteps;
    if (!PyArg_ParseTuple(args, "O!n:decode", &PyTuple_Type, &payloads, &timesteps))
        return NULL;
    if (timesteps < 1 || timesteps > self->timesteps)
        return PyErr_Format(PyExc_ValueError, "%zd timesteps, wanted 1 to %zd", timesteps,
                            self->timesteps);
    Py_ssize_t count = PyTuple_Size(payloads);
    Stack *stacks = take_stacks(payloads, count);
    PyObject *decoded = stacks ? decode_each(self, stacks, count, timesteps) : NULL;
    free(stacks);
    return decoded;
}

static void
take_places(Coder *self)
{
    Py_ssize_t width = self->width, rank = 0;
    for (int colour = 0; colour < COLOURS; colour++) {
        self->ranks[colour] = rank;
        for (Py_ssize_t place = 0; place < self->area; place++) {
            Py_ssize_t y = place / width, x = place % width;
            if ((y + x) % COLOURS != colour)
                continue;
            self->place[rank] = place;
            self->at[rank++] = ((y + 1) * (width + 2) + x + 1) * self->lanes;
        }
    }
    self->ranks[COLOURS] = rank;
    for (int field = 0; field < FIELD; field++)
        self->around[field] = ((field / 3 - 1) * (width + 2) + field % 3 - 1) * self->lanes;
}

/* Each half has blocks of its own, so that a spike may tell on a half alone. */
static void
take_halves(Coder *self)
{
    Py_ssize_t middle = self->channels / HALVES, block = 0;
    Half parts[HALVES] = {{0, middle, 0, 0}, {middle, self->channels, 0, 0}};
    for (int i = 0; i < HALVES; i++) {
        Half part = parts[i];
        if (part.start == part.stop)
            continue;
        part.first = block;
        block += (part.stop - part.start + BLOCK - 1) / BLOCK;
        part.last = block;
        self->half[self->halves++] = part;
    }
    self->lanes = block * BLOCK;
}

static void
take_lanes(Coder *self)
{
    for (Py_ssize_t h = 0; h < self->halves; h++)
        for (Py_ssize_t c = self->half[h].start; c < self->half[h].stop; c++)
            self->lane[c] = self->half[h].first * BLOCK + c - self->half[h].start;
}

/* From [T, colour, 9, 2 C, C], by where a spike is seen from, to where it is seen. */
static void
take_weights(Coder *self, const int8_t *weights)
{
    Py_ssize_t channels = self->channels, inputs = 2 * channels;
    for (Py_ssize_t t = 0; t < self->timesteps; t++)
        for (int colour = 0; colour < COLOURS; colour++)
            for (int field = 0; field < FIELD; field++) {
                int from = (colour + field) % COLOURS; /* odd places have the other colour */
                for (Py_ssize_t input = 0; input < inputs; input++) {
                    Py_ssize_t row = ((t * COLOURS + from) * inputs + input) * FIELD * self->lanes;
                    int16_t *to = self->weights + row + (FIELD - 1 - field) * BLOCK;
                    for (Py_ssize_t c = 0; c < channels; c++) {
                        Py_ssize_t lane = self->lane[c], block = lane / BLOCK;
                        to[block * FIELD * BLOCK + lane % BLOCK] = *weights++;
                    }
                }
            }
}

static void
take_bias(Coder *self, const int16_t *bias)
{
    for (Py_ssize_t t = 0; t < self->timesteps; t++)
        for (Py_ssize_t c = 0; c < self->channels; c++)
            for (Py_ssize_t rank = 0; rank < self->area; rank++) {
                Py_ssize_t to = t * self->padded * self->lanes + self->at[rank] + self->lane[c];
                Py_ssize_t from = (t * self->channels + c) * self->area + self->place[rank];
                self->bias[to] = (int16_t)(bias[from] + self->limit / 2);
            }
}

/* constriction's: the part of what two symbols leave of 2^24, rounded down, and one. */
static void
take_table(Coder *self, const uint16_t *table)
{
    for (Py_ssize_t logit = 0; logit <= self->limit; logit++) {
        uint64_t silent = UINT64_C(65536) - table[logit];
        self->silence[logit] = (uint32_t)(silent * (ONE - 2) >> 16) + 1;
    }
}

static int
take_memory(Coder *self)
{
    size_t timesteps = (size_t)self->timesteps, channels = (size_t)self->channels;
    size_t area = (size_t)self->area, lanes = (size_t)self->lanes;
    self->weights = calloc(timesteps * COLOURS * 2 * channels * FIELD, lanes * sizeof(int16_t));
    self->bias = calloc(timesteps * (size_t)self->padded * lanes, sizeof(int16_t));
    self->silence = calloc((size_t)self->limit + 1, sizeof(uint32_t));
    self->lane = calloc(channels, sizeof(Py_ssize_t));
    self->place = calloc(area, sizeof(Py_ssize_t));
    self->at = calloc(area, sizeof(Py_ssize_t));
    if (self->weights && self->bias && self->silence && self->lane && self->place && self->at)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* Whether no sum of a bias and any weights leaves 16 bits, on the way to it either. */
static int
sums_fit(const Coder *self, const int8_t *weights, const int16_t *bias)
{
    Py_ssize_t channels = self->channels, inputs = FIELD * 2 * channels;
    for (Py_ssize_t t = 0; t < self->timesteps; t++)
        for (Py_ssize_t c = 0; c < channels; c++) {
            const int16_t *at = bias + (t * channels + c) * self->area;
            int64_t least = at[0], most = at[0];
            for (Py_ssize_t place = 1; place < self->area; place++) {
                least = at[place] < least ? at[place] : least;
                most = at[place] > most ? at[place] : most;
            }
            for (int colour = 0; colour < COLOURS; colour++) {
                const int8_t *of = weights + (t * COLOURS + colour) * inputs * channels + c;
                int64_t low = least + self->limit / 2, high = most + self->limit / 2;
                for (Py_ssize_t input = 0; input < inputs; input++, of += channels)
                    *(*of < 0 ? &low : &high) += *of;
                if (low < INT16_MIN || high > INT16_MAX)
                    return 0;
            }
        }
    return 1;
}

static int
take_tables(Coder *self, const Py_buffer *weights, const Py_buffer *bias, const Py_buffer *table)
{
    Py_ssize_t t = self->timesteps, c = self->channels, sites = t * c * self->area;
    Py_ssize_t size = t * COLOURS * FIELD * 2 * c * c;
    if (weights->len != size)
        return wrong_size("weights", weights->len, size), -1;
    if (bias->len != sites * (Py_ssize_t)sizeof(int16_t))
        return wrong_size("bias", bias->len, sites * (Py_ssize_t)sizeof(int16_t)), -1;
    Py_ssize_t entries = table->len / (Py_ssize_t)sizeof(uint16_t);
    if (table->len % (Py_ssize_t)sizeof(uint16_t) || entries % 2 == 0 || entries > INT16_MAX) {
        PyErr_Format(PyExc_ValueError, "table of %zd bytes, wanted an odd number of uint16",
                     table->len);
        return -1;
    }
    const uint16_t *chances = table->buf;
    for (Py_ssize_t i = 0; i < entries; i++)
        if (!chances[i]) {
            PyErr_SetString(PyExc_ValueError, "table holds a 0");
            return -1;
        }
    self->limit = entries - 1;
    if (!sums_fit(self, weights->buf, bias->buf)) {
        PyErr_SetString(PyExc_OverflowError, "sums of these tables take more than 16 bits");
        return -1;
    }
    take_halves(self);
    if (take_memory(self) < 0)
        return -1;
    take_lanes(self);
    take_places(self);
    take_weights(self, weights->buf);
    take_bias(self, bias->buf);
    take_table(self, chances);
    return 0;
}

static PyObject *
coder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"shape", "weights", "bias", "table", NULL};
    Py_ssize_t t, c, h, w;
    Py_buffer weights, bias, table;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "(nnnn)y*y*y*:Coder", names, &t, &c, &h, &w,
                                     &weights, &bias, &table))
        return NULL;
    PyObject *object = NULL;
    if (t < 1 || t > 255 || c < 1 || c > 4096 || h < 1 || h > 32767 || w < 1 || w > 32767
        || h * w > INT32_MAX / c / t)
        PyErr_Format(PyExc_ValueError, "shape [%zd, %zd, %zd, %zd] is none of spikes", t, c, h, w);
    else {
        allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
        object = allocate(type, 0);
    }
    if (object) {
        Coder *self = (Coder *)object;
        self->timesteps = t, self->channels = c, self->width = w;
        self->area = h * w;
        self->padded = (h + 2) * (w + 2);
        if (take_tables(self, &weights, &bias, &table) < 0)
            Py_CLEAR(object);
    }
    PyBuffer_Release(&weights);
    PyBuffer_Release(&bias);
    PyBuffer_Release(&table);
    return object;
}

static void
coder_dealloc(PyObject *object)
{
    Coder *self = (Coder *)object;
    PyTypeObject *type = Py_TYPE(object);
    free(self->weights);
    free(self->bias);
    free(self->silence);
    free(self->lane);
    free(self->place);
    free(self->at);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMethodDef coder_methods[] = {
    {"encode", coder_encode, METH_O, "Code whole timesteps of spikes from 0 on."},
    {"decode", coder_decode, METH_VARARGS,
     "Decode images of so many timesteps from 0 on, and say which payloads are codes of one."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot coder_slots[] = {
    {Py_tp_doc, "Tables of scheme ``context``, laid out for coding; used from any thread."},
    {Py_tp_new, coder_new},
    {Py_tp_dealloc, coder_dealloc},
    {Py_tp_methods, coder_methods},
    {0, NULL},
};

static PyType_Spec coder_spec = {
    "spikebottlenet.codec._native.Coder", sizeof(Coder), 0, Py_TPFLAGS_DEFAULT, coder_slots,
};

static int
native_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &coder_spec, NULL);
    if (!type)
        return -1;
    int done = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return done;
}

static PyModuleDef_Slot native_slots[] = {
    {Py_mod_exec, native_exec},
    {0, NULL},
};

static PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT, "_native", "Scheme ``context`` compiled.", 0, NULL, native_slots,
    NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&native_module);
}
