/* The Python module. It only unpacks Python objects; numbers are checked in views.c and mix.c. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "mix.h"
#include "processors.h"
#include "views.h"

static PyObject *module_size(PyObject *self, PyObject *argument) {
    Py_buffer data;
    Header header;
    int usual;
    (void)self;
    if (PyObject_GetBuffer(argument, &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    usual = views_header(data.buf, (size_t)data.len, &header);
    PyBuffer_Release(&data);
    if (!usual) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("iii", header.width, header.height, header.doubtful);
}

static PyObject *result_of(Outcome outcome) {
    if (outcome == VIEWS_INVALID) {
        PyErr_SetString(PyExc_ValueError, "arguments do not describe views");
        return NULL;
    }
    return outcome == VIEWS_NO_MEMORY ? PyErr_NoMemory() : PyBool_FromLong(outcome == VIEWS_MADE);
}

static PyObject *module_render(PyObject *self, PyObject *arguments) {
    Py_buffer data, params, noise, out;
    Image image;
    Style style;
    int red, green, blue, mode;
    const char *name;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*(ii)y*ip(iii)iy*w*s", &data, &image.width, &image.height, &params, &style.size,
                          &style.bicubic, &red, &green, &blue, &mode, &noise, &out, &name)) {
        return NULL;
    }
    image.data = data.buf;
    image.bytes = (size_t)data.len;
    style.fill[0] = (uint8_t)red;
    style.fill[1] = (uint8_t)green;
    style.fill[2] = (uint8_t)blue;
    style.erase_mode = (EraseMode)mode;
    style.noise = noise.buf;
    style.noise_length = (size_t)noise.len / 3;
    const Params numbers = {params.buf, (size_t)params.len / sizeof(double)};
    const Out views = {out.buf, (size_t)out.len};
    const Processor *processor = processor_named(name);
    Outcome outcome = VIEWS_INVALID;
    if (processor != NULL && noise.len % 3 == 0) {
        Py_BEGIN_ALLOW_THREADS;
        outcome = views_render(&image, &numbers, &style, processor, &views);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&params);
    PyBuffer_Release(&noise);
    PyBuffer_Release(&out);
    return result_of(outcome);
}

/* Mixup with the weight if size is 0, else CutMix of views of that size. */
static PyObject *mixed(Py_buffer *own, Py_buffer *partner, Py_buffer *out, int weight, int size, const int box[4], const Processor *processor) {
    const Pair pair = {own->buf, partner->buf, out->buf, (size_t)out->len};
    int done = 0;
    if (own->len == out->len && partner->len == out->len && processor != NULL) {
        Py_BEGIN_ALLOW_THREADS;
        done = size == 0 ? mixup(&pair, weight, processor) : cutmix(&pair, size, box);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(own);
    PyBuffer_Release(partner);
    PyBuffer_Release(out);
    if (!done) {
        PyErr_SetString(PyExc_ValueError, "arguments do not describe two views, their mix and an output");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *module_mixup(PyObject *self, PyObject *arguments) {
    Py_buffer own, partner, out;
    int weight;
    const char *name;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*y*iw*s", &own, &partner, &weight, &out, &name)) {
        return NULL;
    }
    return mixed(&own, &partner, &out, weight, 0, NULL, processor_named(name));
}

static PyObject *module_cutmix(PyObject *self, PyObject *arguments) {
    Py_buffer own, partner, out;
    int size, box[4];
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*y*i(iiii)w*", &own, &partner, &size, &box[0], &box[1], &box[2], &box[3], &out)) {
        return NULL;
    }
    /* A size of 0 would mean Mixup; -1 is refused. */
    return mixed(&own, &partner, &out, 0, size == 0 ? -1 : size, box, processor_named(""));
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

/* bytes [height, width] */
static PyObject *plane_of(const Pixels *pixels, int channel) {
    size_t width = (size_t)pixels->region.width, height = (size_t)pixels->region.height;
    PyObject *plane = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(width * height));
    for (size_t y = 0; plane != NULL && y < height; y++) {
        memcpy(PyBytes_AS_STRING(plane) + y * width, pixels->planes[channel] + y * pixels->stride, width);
    }
    return plane;
}

static PyObject *region_of(const Pixels *pixels) {
    const Region *region = &pixels->region;
    return Py_BuildValue("iiiiNNN", region->left, region->top, region->width, region->height, plane_of(pixels, 0),
                         plane_of(pixels, 1), plane_of(pixels, 2));
}

/* For tests and timing of decoding alone. */
static PyObject *module_decode(PyObject *self, PyObject *arguments) {
    Py_buffer data;
    Region wanted;
    Pixels pixels;
    const char *name;
    PyObject *result;
    int done;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*(iiii)s", &data, &wanted.left, &wanted.top, &wanted.width, &wanted.height, &name)) {
        return NULL;
    }
    const Processor *processor = processor_named(name);
    DecodeRegion *decode = strcmp(name, "libjpeg") == 0 ? decode_region : processor != NULL ? processor->decode : NULL;
    Py_BEGIN_ALLOW_THREADS;
    done = decode != NULL && views_decode(data.buf, (size_t)data.len, decode, wanted, &pixels);
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
    {"size", module_size, METH_O, "size(data) -> (width, height, doubtful), or None if the reference renderer must judge the file"},
    {"render", module_render, METH_VARARGS,
     "render(data, (width, height), params, size, bicubic, fill, erase_mode, noise, out, processor) -> bool\n\n"
     "data is a JPEG file, or RGB pixels if width and height are not 0. False: the reference renderer must do it."},
    {"mixup", module_mixup, METH_VARARGS,
     "mixup(own, partner, weight, out, processor)\n\nWrites the mix to out, which may be own; weight is own's, in 1/65536."},
    {"cutmix", module_cutmix, METH_VARARGS,
     "cutmix(own, partner, size, (left, top, right, bottom), out)\n\nWrites own, with the partner in the box, to out, which may be own."},
    {"decode", module_decode, METH_VARARGS,
     "decode(data, (left, top, width, height), decoder) -> the region decoded and its planes, or None\n\n"
     "decoder is an instruction set, for sequential files, or 'libjpeg'."},
    {"coefficients", module_coefficients, METH_O, "coefficients(data): entropy decoding alone"},
    {"processor", module_processor, METH_NOARGS, "the instruction set that render uses by default"},
    {"supports", module_supports, METH_O, "supports(processor): whether render can use it on this machine"},
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
    PyModuleDef_HEAD_INIT, "_native", "Views rendered in C, byte for byte equal to the reference renderer's.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
