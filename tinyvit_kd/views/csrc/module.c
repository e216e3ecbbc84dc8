/* The Python module: `size` of a JPEG file and `render` of views from it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "header.h"
#include "view.h"

/* Beyond this the reference renderer, which knows Pillow's own limits, decides. */
enum { MAX_SIDE = 1 << 14, MAX_NUMBER = 1 << 30 };

static const Processor *const PROCESSORS[] = {
#ifdef VIEWS_X86
    &PROCESSOR_AVX512,
    &PROCESSOR_AVX2,
#endif
    &PROCESSOR_BASELINE,
};

static int is_here(const Processor *processor) {
#ifdef VIEWS_X86
    if (processor == &PROCESSOR_AVX512) {
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("bmi2");
    }
    if (processor == &PROCESSOR_AVX2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
#endif
    return processor == &PROCESSOR_BASELINE;
}

/* The best one where no name is given; NULL where this machine does not have it. */
static const Processor *processor_named(const char *name) {
    for (size_t i = 0; i < sizeof PROCESSORS / sizeof *PROCESSORS; i++) {
        if (is_here(PROCESSORS[i]) && (*name == 0 || strcmp(name, PROCESSORS[i]->name) == 0)) {
            return PROCESSORS[i];
        }
    }
    return NULL;
}

typedef struct {
    View *views;
    int count;
} Views;

static int is_number(double value) { return value >= -MAX_NUMBER && value <= MAX_NUMBER; }

/* Advances past one view; 0: the numbers are not those of a view of an image of width x height. */
static int read_view(const double **place, const double *end, const Header *header, const Style *style, View *view) {
    const double *head = *place;
    if (end - head < PARAMS_HEAD) {
        return 0;
    }
    for (int i = 0; i < PARAMS_HEAD; i++) {
        if (!(head[i] >= 0 && is_number(head[i]))) {
            return 0;
        }
    }
    *view = (View){(int)head[0], (int)head[1], (int)head[2], (int)head[3], (int)head[4], (int)head[5], (int)head[6], head + PARAMS_HEAD};
    ptrdiff_t length = (ptrdiff_t)view->operations * PARAMS_OPERATION + (ptrdiff_t)view->boxes * PARAMS_BOX;
    if (end - view->rest < length || view->width < 1 || view->height < 1 ||
        view->left > header->width - view->width || view->top > header->height - view->height) {
        return 0;
    }
    for (int i = 0; i < view->operations; i++) {
        if (view->rest[i * PARAMS_OPERATION] != AFFINE && !is_number(view->rest[i * PARAMS_OPERATION + 1])) {
            return 0;
        }
    }
    for (int i = 0; i < view->boxes; i++) {
        const double *box = view->rest + (ptrdiff_t)view->operations * PARAMS_OPERATION + (ptrdiff_t)i * PARAMS_BOX;
        if (!(box[0] >= 0 && box[1] >= 0 && box[2] >= 0 && box[3] >= 0 && box[0] + box[2] <= style->size &&
              box[1] + box[3] <= style->size && box[4] >= 0 && box[4] < (double)style->noise_length)) {
            return 0;
        }
    }
    *place = view->rest + length;
    return 1;
}

static int read_views(const Py_buffer *params, const Header *header, const Style *style, Views *views) {
    const double *place = params->buf, *end = place + params->len / (Py_ssize_t)sizeof(double);
    for (int i = 0; i < views->count; i++) {
        if (!read_view(&place, end, header, style, &views->views[i])) {
            return 0;
        }
    }
    return place == end;
}

/* The smallest region that holds all crops. */
static Region bounding(const Views *views) {
    int left = MAX_NUMBER, top = MAX_NUMBER, right = 0, bottom = 0;
    for (int i = 0; i < views->count; i++) {
        const View *view = &views->views[i];
        left = view->left < left ? view->left : left;
        top = view->top < top ? view->top : top;
        right = view->left + view->width > right ? view->left + view->width : right;
        bottom = view->top + view->height > bottom ? view->top + view->height : bottom;
    }
    return (Region){left, top, right - left, bottom - top};
}

/* All of an image that came as RGB. */
static int copy_pixels(const Py_buffer *data, const Header *header, Pixels *pixels) {
    size_t plane = (size_t)header->width * (size_t)header->height;
    const uint8_t *rgb = data->buf;
    uint8_t *planes = malloc(3 * plane + PIXELS_SLACK);
    if (planes == NULL) {
        return 0;
    }
    for (size_t i = 0; i < 3 * plane; i++) {
        planes[i % 3 * plane + i / 3] = rgb[i];
    }
    *pixels = (Pixels){{planes, planes + plane, planes + 2 * plane}, (size_t)header->width, {0, 0, header->width, header->height}};
    return 1;
}

static int decode_any(const Py_buffer *data, const Header *header, const Processor *processor, Region wanted, Pixels *pixels) {
    return processor->decode(data->buf, (size_t)data->len, header, wanted, pixels) ||
           decode_region(data->buf, (size_t)data->len, header, wanted, pixels);
}

static Source source_of(const Pixels *pixels, const View *view) {
    size_t row = (size_t)(view->top - pixels->region.top), column = (size_t)(view->left - pixels->region.left);
    size_t offset = row * pixels->stride + column;
    return (Source){{pixels->planes[0] + offset, pixels->planes[1] + offset, pixels->planes[2] + offset}, pixels->stride};
}

/* 1, or 0 where the reference renderer must do it. */
static int render_views(const Py_buffer *data, const Header *header, int is_jpeg, const Style *style, const Views *views,
                        const Processor *processor, uint8_t *out) {
    Pixels pixels;
    int done = 1;
    if (is_jpeg ? !decode_any(data, header, processor, bounding(views), &pixels) : !copy_pixels(data, header, &pixels)) {
        return 0;
    }
    for (int i = 0; done && i < views->count; i++) {
        const View *view = &views->views[i];
        done = processor->render(style, view, source_of(&pixels, view), out + (size_t)i * 3 * style->size * style->size);
    }
    free(pixels.planes[0]);
    return done;
}

static PyObject *module_size(PyObject *self, PyObject *argument) {
    Py_buffer data;
    Header header;
    int usual;
    (void)self;
    if (PyObject_GetBuffer(argument, &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    usual = header_parse(data.buf, (size_t)data.len, &header) && header.width <= MAX_SIDE && header.height <= MAX_SIDE;
    PyBuffer_Release(&data);
    if (!usual) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("iii", header.width, header.height, header.doubtful);
}

static int style_is_valid(const Style *style, const Py_buffer *noise) {
    return style->size >= 1 && style->size <= MAX_SIDE && noise->len >= 3 && noise->len % 3 == 0 &&
           style->erase_mode >= ERASE_CONST && style->erase_mode <= ERASE_PIXEL;
}

/* Width and height of 0: the data is a JPEG file, else RGB. */
static PyObject *render_buffers(const Py_buffer *data, int width, int height, const Py_buffer *params,
                                const Py_buffer *noise, Py_buffer *out, Style *style, const Processor *processor) {
    Header header = {.width = width, .height = height};
    Views views = {NULL, 0};
    int done = 0, is_jpeg = width == 0 && height == 0;
    size_t bytes = 3 * (size_t)style->size * (size_t)style->size;
    style->noise = noise->buf;
    style->noise_length = (size_t)noise->len / 3;
    if (processor == NULL || width < 0 || height < 0 || (!is_jpeg && (size_t)data->len != 3 * (size_t)width * (size_t)height) ||
        !style_is_valid(style, noise) || out->len == 0 || (size_t)out->len % bytes != 0) {
        PyErr_SetString(PyExc_ValueError, "arguments do not describe views");
        return NULL;
    }
    views.count = (int)((size_t)out->len / bytes);
    views.views = malloc(sizeof(View) * (size_t)views.count);
    if (views.views == NULL) {
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS;
    done = (!is_jpeg || header_parse(data->buf, (size_t)data->len, &header)) && read_views(params, &header, style, &views) &&
           render_views(data, &header, is_jpeg, style, &views, processor, out->buf);
    Py_END_ALLOW_THREADS;
    free(views.views);
    return PyBool_FromLong(done);
}

static PyObject *module_render(PyObject *self, PyObject *arguments) {
    Py_buffer data, params, noise, out;
    PyObject *result;
    Style style;
    int width, height, red, green, blue, mode;
    const char *processor;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*(ii)y*ip(iii)iy*w*s", &data, &width, &height, &params, &style.size, &style.bicubic, &red, &green, &blue,
                          &mode, &noise, &out, &processor)) {
        return NULL;
    }
    style.fill[0] = (uint8_t)red;
    style.fill[1] = (uint8_t)green;
    style.fill[2] = (uint8_t)blue;
    style.erase_mode = (EraseMode)mode;
    result = render_buffers(&data, width, height, &params, &noise, &out, &style, processor_named(processor));
    PyBuffer_Release(&data);
    PyBuffer_Release(&params);
    PyBuffer_Release(&noise);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *module_coefficients(PyObject *self, PyObject *argument) {
    Py_buffer data;
    int done;
    (void)self;
    if (PyObject_GetBuffer(argument, &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    done = decode_coefficients(data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&data);
    return PyBool_FromLong(done);
}

static PyObject *region_of(const Pixels *pixels) {
    const Region *region = &pixels->region;
    Py_ssize_t plane = (Py_ssize_t)(pixels->stride * (size_t)region->height);
    return Py_BuildValue("iiiiy#y#y#", region->left, region->top, region->width, region->height, (const char *)pixels->planes[0],
                         plane, (const char *)pixels->planes[1], plane, (const char *)pixels->planes[2], plane);
}

/* For timing and for tests of decoding alone. */
static PyObject *module_decode(PyObject *self, PyObject *arguments) {
    Py_buffer data;
    Region wanted;
    Header header;
    Pixels pixels;
    const char *name;
    PyObject *result;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*(iiii)s", &data, &wanted.left, &wanted.top, &wanted.width, &wanted.height, &name)) {
        return NULL;
    }
    const Processor *processor = processor_named(name);
    DecodeRegion *decode = strcmp(name, "libjpeg") == 0 ? decode_region : processor != NULL ? processor->decode : NULL;
    int done;
    Py_BEGIN_ALLOW_THREADS;
    done = decode != NULL && header_parse(data.buf, (size_t)data.len, &header) && wanted.left >= 0 && wanted.top >= 0 &&
           wanted.width > 0 && wanted.height > 0 && wanted.left <= header.width - wanted.width &&
           wanted.top <= header.height - wanted.height && decode(data.buf, (size_t)data.len, &header, wanted, &pixels);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&data);
    if (!done) {
        Py_RETURN_NONE;
    }
    result = region_of(&pixels);
    free(pixels.planes[0]);
    return result;
}

static PyObject *module_processor(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    return PyUnicode_FromString(processor_named("")->name);
}

static PyObject *module_supports(PyObject *self, PyObject *argument) {
    const char *name = PyUnicode_AsUTF8(argument);
    (void)self;
    return name == NULL ? NULL : PyBool_FromLong(processor_named(name) != NULL);
}

static PyMethodDef methods[] = {
    {"size", module_size, METH_O, "size(data) -> (width, height, doubtful), or None for what the reference must judge"},
    {"render", module_render, METH_VARARGS,
     "render(data, (width, height), params, size, bicubic, fill, erase_mode, noise, out, processor) -> bool\n\n"
     "data is a JPEG file, or RGB where width and height are not 0. False: the reference renderer must do it."},
    {"decode", module_decode, METH_VARARGS, 
     "decode(data, (left, top, width, height), decoder) -> region and its planes, or None\n\n"
     "decoder is a processor, for sequential files, or 'libjpeg'."},
    {"coefficients", module_coefficients, METH_O, "coefficients(data): entropy decoding alone"},
    {"processor", module_processor, METH_NOARGS, "the instruction set that render uses by default"},
    {"supports", module_supports, METH_O, "supports(processor): whether render takes it here"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Views in C, byte for byte the reference renderer's.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
